-- What scripts' reads see: for each table that they may read a view of the same name, with the rows of one app. The program makes the views and the role that
-- reads them, because tables of projections come and go (see adapters/postgres/projecting/app_views.sql).
CREATE SCHEMA picloud_scripts;
