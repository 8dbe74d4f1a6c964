"""Validation while a defence is trained: on stored attacks, or on attacks through the defence itself."""
