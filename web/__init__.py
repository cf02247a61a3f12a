"""New classes from the web: collecting images, the domain discriminator, selection."""
