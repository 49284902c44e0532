"""The quantisation desk: what each precision of a bundle costs and gains on this device, and which one to take."""
