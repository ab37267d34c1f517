//! What users log in by comes from the hub at which they set it, sealed to this one, and is handed on to others.

use super::cluster::ClusterDesk;
use crate::actors::users::UserDesk;
use crate::cluster::ports::CredentialLender;
use crate::crypto::SealingPublicKey;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// Between two looks at what is missing, at least.
const PAUSE: Duration = Duration::from_millis(200);
/// What no hub could give is asked for again after so long, at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Hands out what is here.
struct Lender {
    users: UserDesk,
    runtime: Handle,
}

impl CredentialLender for Lender {
    fn parcel(&self, user: &str, to: &SealingPublicKey) -> Result<Option<Vec<u8>>, String> {
        let parcel = self.runtime.block_on(self.users.parcel(user, to));
        parcel.map_err(|error| error.to_string())
    }
}

/// Hands out what users log in by, and fetches what they set at other hubs, until dropped.
pub(super) fn follow(
    cluster: &Arc<ClusterDesk>,
    users: &UserDesk,
    access: watch::Receiver<u64>,
    runtime: &Handle,
) -> AbortOnDropHandle<()> {
    cluster.book().lend_credentials_of(Arc::new(Lender {
        users: users.clone(),
        runtime: runtime.clone(),
    }));
    let (cluster, users) = (cluster.clone(), users.clone());
    AbortOnDropHandle::new(runtime.spawn(fetch(cluster, users, access)))
}

async fn fetch(cluster: Arc<ClusterDesk>, users: UserDesk, mut access: watch::Receiver<u64>) {
    let mut links = cluster.link_changes();
    let mut again = PAUSE;
    loop {
        access.borrow_and_update();
        links.borrow_and_update();
        let missing = match users.wanted().await {
            Ok(wanted) => {
                let mut missing = false;
                for user in wanted {
                    missing |= !fetch_one(&cluster, &users, &user).await;
                }
                missing
            }
            Err(error) => {
                tracing::warn!(%error, "which credentials are to come from other hubs cannot be said");
                true
            }
        };
        sleep(PAUSE).await;
        again = match missing {
            true => (again * 2).min(LONGEST),
            false => PAUSE,
        };
        let pause = async {
            match missing {
                true => sleep(again).await,
                false => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            changed = access.changed() => changed.is_err(),
            changed = links.changed(), if missing => changed.is_err(),
            () = pause => false,
        };
        if gone {
            return;
        }
    }
}

/// Whether it is here now.
async fn fetch_one(cluster: &ClusterDesk, users: &UserDesk, user: &str) -> bool {
    let mut after: Option<String> = None;
    while let Some((hub, sealed)) = cluster.credentials(user, after.as_deref()).await {
        match users.take(cluster.ring(), &sealed).await {
            Ok(whose) if whose == user => return true,
            Ok(whose) => tracing::warn!(hub, user, whose, "another user's credentials came"),
            // An honest hub may have others by now.
            Err(error) => {
                tracing::warn!(hub, user, %error, "credentials from another hub are not taken");
            }
        }
        after = Some(hub);
    }
    false
}
