"""One module a group of families; each has FAMILIES: name -> {"config", "model", "to_megatron", "arguments"}.

config()                  a tiny transformers configuration
model(config)             the transformers model
to_megatron(state, config)  Hugging Face's state dict as Megatron's on-disk names, every weight used
arguments(config)         Megatron-LM's training arguments for it
"""
