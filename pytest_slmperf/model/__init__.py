"""Records: typed structs from measuring to report, and the file that holds them."""
