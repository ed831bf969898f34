"""What runs while Ada is up."""
