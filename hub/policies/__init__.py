"""What an organisation forbids, whatever a release would pass by itself: shared by who sets it and who obeys it."""
