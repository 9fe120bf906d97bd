"""Models to compare with, and rules that must hold of any history."""
