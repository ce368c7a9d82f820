"""One module a group of families; each has FAMILIES: name -> {"config", "model", "to_megatron", "arguments"}.

config()                  a tiny transformers configuration
model(config)             the transformers model
to_megatron(state, config)  Hugging Face's state dict as Megatron's on-disk names, every weight used
arguments(config)         Megatron-LM's training arguments for it

and, where a family needs them:

prepare(model)            changes to the random weights
golden(tensors, config)   changes to the golden's tensors: spellings and layers that transformers does not save
float32                   endings of names whose tensors are FP32
"""
