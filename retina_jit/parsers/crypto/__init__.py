"""AES-128-GCM, header protection and HKDF: what it takes to read packets whose keys are public."""
