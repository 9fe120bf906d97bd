"""The bodies of `huahuo replay`: what the command line does with the library in `replay`."""
