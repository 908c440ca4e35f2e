// Update dashboard metrics in real-time
const metricStream = new EventSource('/api/v1/events/stream/system');

metricStream.onmessage = function(event) {
    const data = JSON.parse(event.data);
    if (data.type === 'metric_update') {
        updateDashboardMetrics(data.data);
    }
};

// Handle real-time notifications
const notificationStream = new EventSource('/api/v1/events/stream/notifications');

notificationStream.onmessage = function(event) {
    const notification = JSON.parse(event.data);
    showNotificationToast(notification.message, notification.data);
};

// Real-time collaborative document editing
const collabStream = new EventSource('/api/v1/events/stream/document_123');

collabStream.onmessage = function(event) {
    const change = JSON.parse(event.data);
    if (change.type === 'document_change') {
        applyRemoteChange(change.data);
    }
};
