"""Pure torch: tensors in, tensors out; one formula, one home. No I/O, no random numbers, no device moves."""
