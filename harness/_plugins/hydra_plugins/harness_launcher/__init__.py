"""The harness's Hydra plug-ins: a launcher that sees the whole sweep, a sweeper, a source of experiments."""
