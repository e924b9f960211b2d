"""Workers that are jobs of a batch system: SLURM, or a queue of this machine."""
