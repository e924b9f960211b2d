"""Who answers requests: the protocols, and `hf`, transformers in process."""
