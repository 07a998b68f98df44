"""One energy meter a file, behind ``energy.base``."""
