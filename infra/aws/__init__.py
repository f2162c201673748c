"""The service on AWS, as one stack of CloudFormation per region. Nothing of the product imports this room."""
