"""A real SLURM of one node with two false GPUs, started in a folder: Debian's slurmctld, slurmd, munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=2,batch_sched_delay=1,bf_interval=2
KillWait=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 Gres=gpu:2
PartitionName=gpu Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes={host} PriorityTier=10 PreemptMode=OFF
"""


def can_start() -> bool:
    """Return whether a SLURM can be started here: its packages are installed, and this is root."""
    return all(map(shutil.which, PROGRAMS)) and os.getuid() == 0


class SlurmCluster:
    """A cluster, for jobs of the processes that have its SLURM_CONF."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.conf = folder / "slurm.conf"
        host = socket.gethostname()
        for name in ("state", "spool"):
            (folder / name).mkdir()
        for number in range(2):  # any device file does for a GPU
            os.mknod(folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
        ports = {"ctld_port": _free_port(), "d_port": _free_port()}
        self.conf.write_text(CONF.format(folder=folder, host=host, **ports))
        (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/gpu[0-1]\n")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        folder.chmod(0o755)
        self._start("munged", f"--key-file={key}", f"--socket={folder}/munge.socket", "--force",
                    f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
                    f"--seed-file={folder}/munged.seed")  # fmt: skip
        self._start("slurmctld", "-f", str(self.conf))
        self._start("slurmd", "-f", str(self.conf), "-N", host)
        until = time.monotonic() + 30
        while "idle" not in self.run("sinfo", "-h", "-o", "%T"):
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()[-3000:]
            time.sleep(0.2)

    def run(self, *words: str) -> str:
        """Return what a command of SLURM prints."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the states of the jobs that are queued or running, by id."""
        lines = self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return {job: state for job, _, state in (line.partition(" ") for line in lines)}

    def clear(self) -> None:
        """Cancel all jobs, and wait until they are gone."""
        self.run("scancel", "--signal=KILL", *self.jobs())
        self.run("scancel", *self.jobs())
        until = time.monotonic() + 30
        while self.jobs() and time.monotonic() < until:
            time.sleep(0.2)

    def stop(self) -> None:
        """End the daemons."""
        self.clear()
        for name in ("slurmd", "slurmctld", "munged"):
            path = self._folder / f"{name}.pid"
            if path.is_file():
                pid = int(path.read_text())
                os.kill(pid, 15)
                until = time.monotonic() + 10
                while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                    time.sleep(0.1)

    def _start(self, *words: str) -> None:
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
