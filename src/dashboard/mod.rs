//! The HTML pages: a file per page. Handlers read as steps and render askama templates.
