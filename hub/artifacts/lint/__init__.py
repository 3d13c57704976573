"""What a role's folder, and the bundle made from it, must look like: pure rules that list all they find at once."""
