"""The harness's Hydra plug-ins: a launcher of whole sweeps, a sweeper, a source of experiments."""
