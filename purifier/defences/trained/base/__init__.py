"""What impure-train needs of a network, and what every defence around such a network has."""
