"""What is right and wrong with a machine, an environment and a bundle, for `onnxpipe doctor`."""
