"""THE AUTHOR: any language model writes new conversations of a fictional persona, for training."""
