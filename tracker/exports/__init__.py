"""What a run is handed on as: formats that other programs read, one file each."""
