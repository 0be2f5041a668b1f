"""A trip, booked as a whole or not at all: flight, hotel and car at three services, and a payment that can't be taken back."""
