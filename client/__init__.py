"""What asks a server. Rules of this folder: it knows the wire, and nothing of the server's insides."""
