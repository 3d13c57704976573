"""What an organisation demands of its fleet, and the account of whether it holds."""
