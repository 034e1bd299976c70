"""What plain torch modules share that change while they train: plastic residual networks, transformers."""
