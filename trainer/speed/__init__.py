"""How fast training is: against plain TRL on the same data, and at Llama-2-7B's shape."""
