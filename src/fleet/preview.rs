//! The consequences of a request, without carrying it out.
//!
//! The same code computes them for a request that is carried out. Nothing here changes the fleet.

use crate::fleet::consequences::of_service;
use crate::fleet::{
    ChangeRefused, ChangeRequest, Consequence, Fleet, OverrideRefused, OverrideRequest, ServiceRefused,
    ServiceRequest,
};
use crate::table::Table;

impl Fleet {
    /// The consequences of a request. It is not refused because of them, because a request may be forced.
    ///
    /// # Errors
    /// If there is no such backend, service or pool, or no tier to return to.
    pub fn preview(&self, request: &ChangeRequest) -> Result<Vec<Consequence>, ChangeRefused> {
        match request {
            ChangeRequest::Backend(request) => self.preview_override(request).map_err(ChangeRefused::Backend),
            ChangeRequest::Service(request) => self.preview_service(request).map_err(ChangeRefused::Service),
        }
    }

    fn preview_override(&self, request: &OverrideRequest) -> Result<Vec<Consequence>, OverrideRefused> {
        let OverrideRequest { pool, backend: name, change, .. } = request;
        let (id, backend) = self
            .pools
            .find(pool, name)
            .ok_or_else(|| OverrideRefused::NoSuchBackend { pool: pool.clone(), backend: name.clone() })?;
        Ok(self.consequences(id, backend, *change))
    }

    fn preview_service(&self, request: &ServiceRequest) -> Result<Vec<Consequence>, ServiceRefused> {
        match request {
            ServiceRequest::FailOver(request) => {
                let (id, kept) = self.wanted_failover(request)?;
                Ok(self.failover_consequences(id, kept.as_ref()))
            }
            ServiceRequest::FailBack(request) => {
                let (id, plans) = Self::wanted_failback(&self.table, request)?;
                let after = Table::clone(&self.table);
                let after = self.with_progress(|progress| after.with_tiers_in_use(plans, progress));
                Ok(of_service(id, [&self.table, &after]))
            }
        }
    }
}
