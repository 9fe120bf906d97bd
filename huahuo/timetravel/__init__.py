"""The bodies of the commands of `huahuo replay`, based on the library in `replay`."""
