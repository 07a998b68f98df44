"""The devices of this machine, which of them are visible, and which processes use them."""
