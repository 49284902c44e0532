"""Writing text token by token: options, what they do to scores, the choice of tokens and the search over them."""
