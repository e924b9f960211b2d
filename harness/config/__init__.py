"""What a command and a config may contain, the rules across keys, and the frozen Point composed from them."""
