"""Who may ask what: keys, hosts and origins, TLS, and the one decision that every protocol takes (admission)."""
