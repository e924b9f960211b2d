"""What a decoding strategy is: its explicit GenerationConfig, its processors, its luck, its text."""
