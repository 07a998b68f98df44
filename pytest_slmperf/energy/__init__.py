"""Energy: meters behind the base classes of ``energy/base.py``, each reading with its source, scope and error bound."""
