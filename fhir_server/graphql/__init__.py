"""GraphQL over the stored resources: the schema is the type model, the search is REST's (R4 graphql.html)."""
