"""What a training step minimises: a network with its loss, RIAE's or a defence's."""
