"""Where answers come from: servers, files, models in this process."""
