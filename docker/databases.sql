-- One database for MLflow, one for the ledgers of all studies: both keep a table of the same name.
create database mlflow;
create database ledger;
