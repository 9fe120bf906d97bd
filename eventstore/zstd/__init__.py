"""zstd with a shared, trained dictionary. Pure.

Exports: frames made and read with bounds (`frames`), training of dictionaries (`training`).
"""
