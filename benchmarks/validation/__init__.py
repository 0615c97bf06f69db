"""Does what is printed hold? Null worlds for every p value, true values for every interval."""
