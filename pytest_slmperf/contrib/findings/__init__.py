"""Do the published shapes of small-model serving hold in these results? Pure functions of records."""
