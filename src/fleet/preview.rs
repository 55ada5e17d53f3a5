//! The consequences of a request, without carrying it out.
//!
//! The same code computes them for a request that is carried out. Nothing here changes the fleet.

use crate::fleet::consequences::of_service;
use crate::fleet::{
    BulkRefused, BulkRequest, ChangeRefused, ChangeRequest, Consequence, Fleet, OverrideRefused,
    OverrideRequest, ServiceRefused, ServiceRequest,
};
use crate::table::Table;

impl Fleet {
    /// The consequences of a request. It is not refused because of them, because a request may be forced.
    ///
    /// # Errors
    /// If there is no such backend, service or pool, no tier to return to, or not the expected override.
    pub fn preview(&self, request: &ChangeRequest) -> Result<Vec<Consequence>, ChangeRefused> {
        match request {
            ChangeRequest::Backend(request) => self.preview_override(request).map_err(ChangeRefused::Backend),
            ChangeRequest::Bulk(request) => self.preview_bulk(request).map_err(ChangeRefused::Bulk),
            ChangeRequest::Service(request) => self.preview_service(request).map_err(ChangeRefused::Service),
        }
    }

    fn preview_override(&self, request: &OverrideRequest) -> Result<Vec<Consequence>, OverrideRefused> {
        let (id, backend) = self.wanted_override(request)?;
        Ok(self.consequences(&[(id, [backend].into())].into(), request.change))
    }

    fn preview_bulk(&self, request: &BulkRequest) -> Result<Vec<Consequence>, BulkRefused> {
        Ok(self.consequences(&self.selected(&request.selection)?, request.change))
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
