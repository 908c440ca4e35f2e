const wellId = 'WELL-001';
const token = 'YOUR_JWT_TOKEN';
const sseUrl = `http://localhost:8000/api/v1/sse/stream/${wellId}?token=${token}`;

const eventSource = new EventSource(sseUrl);

// Connection events
eventSource.onopen = () => {
    console.log('SSE connection established');
};

eventSource.onerror = (error) => {
    console.error('SSE connection error:', error);

    if (eventSource.readyState === EventSource.CLOSED) {
        console.log('SSE connection closed, will auto-reconnect');
    }
};

// Custom event listeners
eventSource.addEventListener('connected', (event) => {
    const data = JSON.parse(event.data);
    console.log('Connected:', data.message);
});

eventSource.addEventListener('heartbeat', (event) => {
    const data = JSON.parse(event.data);
    console.log('Heartbeat at:', data.timestamp);
});

eventSource.addEventListener('telemetry_update', (event) => {
    const data = JSON.parse(event.data);
    console.log('Telemetry:', data);
    updateDashboard(data);
});

eventSource.addEventListener('alert', (event) => {
    const data = JSON.parse(event.data);
    console.log('ALERT:', data);
    showAlertNotification(data);
});

eventSource.addEventListener('error', (event) => {
    const data = JSON.parse(event.data);
    console.error('Error:', data);
});
