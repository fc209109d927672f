"""pagelab measures LLM inference when the model does not fit in RAM and its weights are read from an SSD."""

__version__ = "0.1.0"
