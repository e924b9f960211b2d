"""The backend of vLLM, in process: its engine moves the rows, the harness chooses from their logits."""
