"""The figures that need a GPU, measured in one sitting on a machine without network."""
