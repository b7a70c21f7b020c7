//! The tables of one round's load.

use tokio_postgres::{Config, Error, NoTls};

/// The two tables of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Their number.
    pub number: u64,
}

impl Tables {
    /// The table of marks.
    #[must_use]
    pub fn marks(self) -> String {
        format!("chaos_marks_{}", self.number)
    }

    /// The table of rows.
    #[must_use]
    pub fn rows(self) -> String {
        format!("chaos_rows_{}", self.number)
    }

    /// Makes them. The primary keys and the second index are there to be checked against the tables.
    pub async fn make(self, config: &Config) -> Result<(), Error> {
        let (marks, rows) = (self.marks(), self.rows());
        let script = format!(
            "CREATE TABLE {marks} (client int NOT NULL, sequence int NOT NULL, PRIMARY KEY (client, sequence));
             CREATE TABLE {rows} (client int NOT NULL, sequence int NOT NULL, part int NOT NULL, version int NOT NULL,
                 payload text NOT NULL, checksum bigint NOT NULL, PRIMARY KEY (client, sequence, part));
             CREATE INDEX ON {rows} (checksum);"
        );
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        client.batch_execute(&script).await?;
        drop(client);
        let _ = connection.await;
        Ok(())
    }
}
