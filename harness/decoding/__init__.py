"""What a decoding strategy is: its settings, processors, truncation, Gumbel noise and detokenization."""
