"""Who makes and who reads each tensor of a model."""
