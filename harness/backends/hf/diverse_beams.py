"""Diverse beam search: groups of beams that avoid what the groups before them choose.

The search goes by scores less the diversity penalty; what is reported and recorded is without it. A group
that is finished chooses nothing, so later groups are penalised for nothing of it.
"""

from __future__ import annotations

from harness.backends.hf.beam_search import BeamSearch


class DiverseBeams(BeamSearch):
    """As many groups as `num_beam_groups` says; `diversity_penalty` is what makes them differ."""
